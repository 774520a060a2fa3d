from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0007_run_permissions"),
    ]

    operations = [
        migrations.AddField(
            model_name="feedstate",
            name="shape",
            field=models.JSONField(db_default={}, default=dict, editable=False),
        ),
    ]
