"""A file of prompts as a job to plan, and the planned order back to files."""
