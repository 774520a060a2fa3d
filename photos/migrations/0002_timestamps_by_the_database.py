"""Let the database keep `created` and `updated`: COPY and SQL merges run no Django code."""

import django.db.models.functions.datetime
from django.db import migrations, models

CREATE_TRIGGER = """
CREATE FUNCTION photos_set_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated := now();
    RETURN NEW;
END
$$;
CREATE TRIGGER photos_set_updated BEFORE UPDATE ON photos
    FOR EACH ROW EXECUTE FUNCTION photos_set_updated();
"""
DROP_TRIGGER = """
DROP TRIGGER photos_set_updated ON photos;
DROP FUNCTION photos_set_updated();
"""


class Migration(migrations.Migration):
    dependencies = [("photos", "0001_initial")]

    operations = [
        migrations.AlterField(
            model_name="photo",
            name="created",
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
        ),
        migrations.AlterField(
            model_name="photo",
            name="updated",
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
        ),
        migrations.RunSQL(CREATE_TRIGGER, DROP_TRIGGER),
    ]
