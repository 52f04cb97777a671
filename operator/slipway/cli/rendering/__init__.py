"""The output for people and programs: tables, data, summaries of resources, plans, errors."""
