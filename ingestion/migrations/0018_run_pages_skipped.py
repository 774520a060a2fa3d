from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0017_source_file"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="pages_skipped",
            field=models.BigIntegerField(db_default=0, default=0),
        ),
    ]
