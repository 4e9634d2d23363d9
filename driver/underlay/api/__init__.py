"""The plugin protocol: messages, what they do, and the HTTP around them."""
