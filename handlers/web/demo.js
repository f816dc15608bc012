// @ts-check
/** The demo page: ?doctor=…&patient=… choose who, ?view=patient shows only the phone, ?lang=zh the language. */
import { firstLanguage, say, setLanguage } from './demo-i18n.js';
import { byId } from './demo-side.js';
import { Doctor } from './demo-doctor.js';
import { Patient } from './demo-patient.js';

const query = new URLSearchParams(location.search);
const doctorId = query.get('doctor') || 'doctor-7';
const patientId = query.get('patient') || 'patient-42';
const alone = query.get('view') === 'patient';

setLanguage(firstLanguage());
for (const button of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('[data-language]'))) {
  button.addEventListener('click', () => setLanguage(button.dataset.language ?? 'en'));
}

const second = new URL(location.href);
second.search = String(new URLSearchParams({ doctor: doctorId, patient: patientId, view: 'patient' }));
/** @type {HTMLAnchorElement} */ (byId('second')).href = second.href;

let held = 0;
function showHeld() {
  say(byId('bridge-holds'), held ? 'bridgeHolds' : 'stopBridge', { n: held });
  document.querySelector('[data-stop="bridge"]')?.classList.toggle('holds', held > 0);
}

const patient = new Patient(patientId, () => {
  held = 0;
  showHeld();
});
patient.client.connect();

if (alone) document.body.classList.add('alone');
else {
  new Doctor(doctorId, patientId, () => {
    held++;
    showHeld();
  }).client.connect();
}
