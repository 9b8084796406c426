"""The pictures of a training, each drawn from sealed tables and attachments alone."""
