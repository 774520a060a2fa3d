from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0005_run_confirm_deletes"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="resumes",
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
    ]
