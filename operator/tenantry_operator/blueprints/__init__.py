"""Blueprints and their versions: from resources to chains of migrations."""
