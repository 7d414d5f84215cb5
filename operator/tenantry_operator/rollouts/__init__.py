"""Rollouts: which tenants are to get which version, wave by wave, and what comes of it."""
