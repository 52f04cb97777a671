"""What would come to be, without making it: the operator's own planners over the twin, where all goes well."""
