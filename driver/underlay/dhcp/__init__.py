"""DHCP for IPv4, as a client: messages, frames, one exchange, and its socket."""
