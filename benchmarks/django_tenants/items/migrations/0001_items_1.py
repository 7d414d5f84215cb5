"""Items 1 to 5."""

from django.db import migrations

from items.migrations import create


class Migration(migrations.Migration):
    """Five tables."""

    dependencies = ()
    operations = create(1, 5)
