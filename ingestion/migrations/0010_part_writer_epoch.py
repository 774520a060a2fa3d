from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0009_run_drift"),
    ]

    operations = [
        migrations.AddField(
            model_name="part",
            name="writer_epoch",
            field=models.BigIntegerField(db_default=0, default=0, editable=False),
        ),
    ]
