"""Database servers: how they are reached, and what is known of them."""
