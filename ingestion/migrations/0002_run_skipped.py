from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="skipped",
            field=models.BigIntegerField(db_default=0, default=0),
        ),
    ]
