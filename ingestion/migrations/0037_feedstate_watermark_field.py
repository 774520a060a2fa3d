from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0036_host"),
    ]

    operations = [
        migrations.AddField(
            model_name="feedstate",
            name="watermark_field",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=255),
        ),
    ]
