from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("ingestion", "0037_feedstate_watermark_field")]

    operations = [
        migrations.AddField(
            model_name="reject",
            name="part",
            field=models.PositiveIntegerField(null=True),
        ),
    ]
