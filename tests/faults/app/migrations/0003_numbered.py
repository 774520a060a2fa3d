from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("faults", "0002_replaced")]

    operations = [
        migrations.CreateModel(
            name="Numbered",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("source", models.CharField(max_length=20)),
                ("number", models.BigIntegerField()),
                ("payload", models.TextField()),
                ("hash", models.CharField(max_length=64)),
                ("size", models.IntegerField()),
            ],
            options={
                "db_table": "faults_numbered",
                "constraints": [models.UniqueConstraint(fields=("number",), name="faults_numbered_key")],
            },
        ),
    ]
