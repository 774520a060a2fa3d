from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0008_feed_shape"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="shape",
            field=models.JSONField(db_default={}, default=dict, editable=False),
        ),
        migrations.AddField(
            model_name="run",
            name="drift",
            field=models.JSONField(db_default=[], default=list),
        ),
        migrations.AddField(
            model_name="run",
            name="accept_drift",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
