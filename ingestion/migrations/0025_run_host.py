from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0024_run_group"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="host",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=253),
        ),
    ]
