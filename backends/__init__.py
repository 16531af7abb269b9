"""What writes redir's graph out again."""
