from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0004_reject_resolution"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="confirm_deletes",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
