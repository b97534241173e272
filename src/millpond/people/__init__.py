"""People: users, sessions, projects, roles, tokens, secrets; may X do Y?"""
