"""Pictures and pages about a job."""
