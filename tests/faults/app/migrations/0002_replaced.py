from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("faults", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Replaced",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("source", models.CharField(max_length=20)),
                ("number", models.BigIntegerField()),
                ("payload", models.TextField()),
                ("hash", models.CharField(max_length=64)),
                ("size", models.IntegerField()),
            ],
            options={
                "db_table": "faults_replaced",
                "constraints": [models.UniqueConstraint(fields=("source", "number"), name="faults_replaced_key")],
            },
        ),
    ]
