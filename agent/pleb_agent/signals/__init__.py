"""Where signals come from: files, addresses, MQTT, Home Assistant, sensors, calendars."""
