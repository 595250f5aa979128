// SPDX-License-Identifier: GPL-2.0

//! Values for people: a line a field, indented, short objects in tables.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::Value;

/// Prints a value; a reader that went away is no error.
pub fn print(value: &Value, json: bool) -> Result<(), String> {
    let mut text = if json {
        serde_json::to_string_pretty(value).map_err(|error| error.to_string())?
    } else {
        let mut text = String::new();
        write_value(&mut text, value, 0);
        text
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}

fn scalar(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => return None,
    })
}

fn write_value(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) => {
            let width = fields.keys().map(String::len).max().unwrap_or(0);
            for (key, field) in fields {
                let key = key.replace('_', " ");
                match scalar(field) {
                    Some(value) => {
                        let _ = writeln!(text, "{:indent$}{key:<width$}  {value}", "");
                    }
                    None => {
                        let _ = writeln!(text, "{:indent$}{key}", "");
                        write_value(text, field, indent + 2);
                    }
                }
            }
        }
        Value::Array(items) => write_array(text, items, indent),
        other => {
            let _ = writeln!(text, "{:indent$}{}", "", scalar(other).unwrap_or_default());
        }
    }
}

/// Objects with the same scalar fields become a table, everything else a list.
fn write_array(text: &mut String, items: &[Value], indent: usize) {
    if items.is_empty() {
        let _ = writeln!(text, "{:indent$}none", "");
        return;
    }
    let Some(rows) = table(items) else {
        for item in items {
            write_value(text, item, indent);
        }
        return;
    };
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in &rows {
        let mut line = String::new();
        for (cell, &width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        let _ = writeln!(text, "{:indent$}{}", "", line.trim_end());
    }
}

fn table(items: &[Value]) -> Option<Vec<Vec<String>>> {
    let keys: Vec<&String> = items.first()?.as_object()?.keys().collect();
    let mut rows = vec![keys.iter().map(|key| key.replace('_', " ")).collect()];
    for item in items {
        let fields = item.as_object()?;
        if fields.len() != keys.len() {
            return None;
        }
        let row: Option<Vec<String>> = keys
            .iter()
            .map(|key| fields.get(*key).and_then(scalar))
            .collect();
        rows.push(row?);
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_lists_and_tables() {
        let mut text = String::new();
        let value = json!({
            "a_number": 7,
            "flag": true,
            "rows": [{"x": 1, "name": "one"}, {"x": 200, "name": "two"}],
            "none": [],
        });
        write_value(&mut text, &value, 0);
        assert_eq!(
            text,
            "a number  7\nflag      yes\nrows\n  x    name\n  1    one\n  200  two\nnone\n  none\n"
        );
    }
}
