"""What reads models into redir's graph."""
