from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0013_attempt"),
    ]

    operations = [
        migrations.AddField(
            model_name="part",
            name="share",
            field=models.JSONField(db_default={}, default=dict, editable=False, null=True),
        ),
    ]
