"""Statements for the PostgreSQL server of the tests."""

from typing import Any


def sql(url: str, *statements: str) -> list[Any]:
    """Runs the statements; the rows that the last one gives."""
    import psycopg2

    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()
