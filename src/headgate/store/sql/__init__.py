"""The store in a database: SQLite in a file, or PostgreSQL; one code for both, on SQLAlchemy Core.

Only the control process and the command line import this package: workers stay without a database library.
"""
