"""The passes that redir ships, one in a file."""
