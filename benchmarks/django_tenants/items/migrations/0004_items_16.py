"""Items 16 to 20."""

from django.db import migrations

from items.migrations import create


class Migration(migrations.Migration):
    """Five tables."""

    dependencies = (("items", "0003_items_11"),)
    operations = create(16, 20)
