"""Text in and out: tokenizer, chat template, token by token detokenization."""
