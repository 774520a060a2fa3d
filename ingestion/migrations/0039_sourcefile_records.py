from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("ingestion", "0038_reject_part")]

    operations = [
        migrations.AddField(
            model_name="sourcefile",
            name="records",
            field=models.BigIntegerField(null=True),
        ),
    ]
