from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0032_feedstate_watermark"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="watermark",
            field=models.JSONField(db_default={}, default=dict, editable=False),
        ),
        migrations.AddField(
            model_name="part",
            name="highest",
            field=models.JSONField(editable=False, null=True),
        ),
    ]
