"""The `blendserve` command."""
