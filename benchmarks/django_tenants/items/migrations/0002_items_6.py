"""Items 6 to 10."""

from django.db import migrations

from items.migrations import create


class Migration(migrations.Migration):
    """Five tables."""

    dependencies = (("items", "0001_items_1"),)
    operations = create(6, 10)
