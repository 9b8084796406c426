"""New distributions of plugins: templates that work as they are, and their rendering under another name."""
