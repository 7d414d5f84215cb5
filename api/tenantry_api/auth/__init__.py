"""Who is asking: tokens, accounts with passwords, a trusted gateway."""
