from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0014_part_share"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="limit",
            field=models.PositiveBigIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="run",
            name="parts_at_once",
            field=models.PositiveIntegerField(db_default=1, default=1, editable=False),
        ),
    ]
