"""The OpenAI Batch format: requests in, results out."""
