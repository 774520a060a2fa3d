from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0018_run_pages_skipped"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="full",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
