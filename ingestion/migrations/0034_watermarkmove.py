import django.db.models.deletion
from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0033_run_watermark"),
    ]

    operations = [
        migrations.CreateModel(
            name="WatermarkMove",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("moved_at", models.DateTimeField(db_default=Now(), editable=False)),
                ("moved_by", models.CharField(blank=True, max_length=150)),
                ("before", models.JSONField(null=True)),
                ("after", models.JSONField(null=True)),
                ("reason", models.TextField()),
                (
                    "feed",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="watermark_moves",
                        to="ingestion.feedstate",
                    ),
                ),
            ],
            options={
                "ordering": ("-id",),
                "default_permissions": (),
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("reason", ""), _negated=True),
                        name="ingestion_watermarkmove_has_a_reason",
                    )
                ],
            },
        ),
    ]
