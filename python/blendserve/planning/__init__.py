"""From a job's prompts to the order in which to run them, and what it will cost."""
