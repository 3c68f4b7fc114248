"""What people see: one module for each type of job, and one for each subject of all jobs.

And what programs see: `json_output`."""
