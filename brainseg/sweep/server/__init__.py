"""A server of one's own: PostgreSQL that runs from `tracking.root`, where nobody keeps one for the workers."""
