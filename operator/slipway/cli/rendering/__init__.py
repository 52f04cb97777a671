"""What people and programs read: tables, data, summaries of resources, plans, errors."""
