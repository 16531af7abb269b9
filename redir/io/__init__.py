"""What comes from outside: models and arrays in files, where outputs go, and plugins."""
