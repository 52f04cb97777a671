"""The life of a Job, from the intent to its report: one state machine for attempts of a TrainingJob and for tasks."""
