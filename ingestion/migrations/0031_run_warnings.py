from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0030_run_resumed_by"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="warnings",
            field=models.JSONField(db_default=[], default=list),
        ),
    ]
