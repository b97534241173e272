"""Invitations: links by which somebody makes their own account, into a project or none."""
