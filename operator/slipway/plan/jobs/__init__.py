"""The state machine of a Job, from the intent to its report, for attempts of a TrainingJob and for tasks."""
