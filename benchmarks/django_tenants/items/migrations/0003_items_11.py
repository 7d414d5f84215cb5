"""Items 11 to 15."""

from django.db import migrations

from items.migrations import create


class Migration(migrations.Migration):
    """Five tables."""

    dependencies = (("items", "0002_items_6"),)
    operations = create(11, 15)
