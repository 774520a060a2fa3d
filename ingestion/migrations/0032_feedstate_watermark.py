from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0031_run_warnings"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="feedstate",
            options={
                "ordering": ("name",),
                "permissions": (
                    ("sync_feedstate", "Can sync feeds"),
                    ("move_watermark", "Can move watermarks of feeds"),
                ),
                "verbose_name": "feed",
                "verbose_name_plural": "feeds",
            },
        ),
        migrations.AddField(
            model_name="feedstate",
            name="watermark",
            field=models.JSONField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="feedstate",
            name="watermark_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
